// Command mutate asks whether the tests of a package can fail: it changes the package in
// one place at a time and says which changes no test notices.
//
//	go run ./internal/testing/mutate [flags] ./package...
//
// A change is called a mutant. These are made:
//
//	bound      < becomes <=, > becomes >= and back; a number in a comparison, an index or a constant is one more or less
//	condition  the condition of an if is negated
//	operand    one side of && or || is left out
//	statement  a call, an assignment, a return, break or continue is left out
//	rollback   the same in a defer, or where an error is handled
//	case       a case of a switch does nothing
//	loop       a loop ends after its first round
//
// Of all of them a sample is drawn from a seed. All of the sample are in one build of each test
// binary, and an environment variable says which is in force, so that a mutant costs a run and
// no build; a constant has to have a build of its own. What does not compile is replaced by
// another mutant. Everything is built with go's -overlay: no file of the tree is touched.
//
// Each test runs once alone, which says which mutants it reaches and how long it takes. A
// mutant is found if a test that reaches it fails, or does not end: it is ended when it has used
// far more processor time than it did then, or has slept for a minute and more. To wait for a
// processor is not to sleep, so the figures do not depend on how busy the machine is. Tests that
// take longer than -longest, and those that fail without any mutant, are left out and named. The
// table in packages.go says which other packages' tests exercise a package, and which of its tests
// are left out because they need more than a process.
//
// With -run only some tests are run: what they find is found, and what they do not find the others may.
//
// With -again and the report of an earlier run only those are tried that survived then: tests were
// added since, and the package is the same.
//
// equivalent.txt names mutants that cannot be found because they change nothing that anybody
// can see, each with the reason. They are not counted. Calls that only write the log are not changed.
package main
