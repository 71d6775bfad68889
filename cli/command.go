package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const rootLong = `%[1]s runs Dramatiq actors and sends messages to them.

The broker is the one of the flag --broker, else of the environment variable
DRAMATIQ_BROKER_URL, else the program's default. A URL that holds a password is
better kept in the variable, as everybody on a machine can see command lines.

Exit codes: 0 done, 1 failed or ended by a second signal, 2 wrong command line
or environment.`

// command returns the tree of commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           p.cfg.Name,
		Short:         "Run Dramatiq actors and send messages to them",
		Long:          fmt.Sprintf(rootLong, p.cfg.Name),
		Version:       p.version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("a command is missing: worker, enqueue or version")
		},
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&p.url, "broker", "", "`URL` of the broker (default $"+URLVariable+")")
	p.logging.register(root.PersistentFlags())
	root.AddCommand(p.workerCommand(), p.enqueueCommand(), p.versionCommand())
	return root
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the program's version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.begin(cmd.Context())
			_, err := fmt.Fprintln(p.stdout, p.version())
			return err
		},
	}
}

// version returns the program's version and what it was built with.
func (p *program) version() string {
	version := p.cfg.Version
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	if version == "" {
		version = "(unknown version)"
	}
	return fmt.Sprintf("%s %s %s %s/%s", p.cfg.Name, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
