// Package faults is the kit that proves the guarantees of docs/guarantees.md: it injects faults and finds out whether a
// message was lost or ran more often than the faults explain.
//
//   - proxy stands in front of a broker and refuses, resets, drops, slows down or cuts replies short,
//   - process starts the workers and producers that are to be killed or stopped,
//   - ledger is the independent record of every run, shared by processes of both languages,
//   - checker compares the accepted messages, the ledger, the dead letters and the faults,
//   - testenv finds the servers that tools/with-servers started.
//
// A proof is a test named TestProof…; "make test" runs the short ones after all other tests, one package at a time and
// without the race detector, and "make proof" runs them at full length (see testenv.Full).
package faults
