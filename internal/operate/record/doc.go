// Package record keeps what happens to an IKE endpoint and plays it again. An
// endpoint is a function of its seed and its inputs, so that a recording of
// both gives the same outputs to the byte, whenever and wherever it is played.
//
//	codec.go     inputs as bytes
//	digest.go    outputs as digests
//	file.go      the format of a recording, its writer and its reader
//	recorder.go  an endpoint that writes down what happens to it
//	replay.go    the same again, and where it differs
//	redact.go    inputs and outputs as text; what a recording without secrets compares
//	witness.go   what an endpoint without secrets is told instead
//	blank.go     what such a recording keeps of messages and answers
package record
