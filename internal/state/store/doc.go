// Package store keeps what has to outlive the process: a few buckets of keys and
// values, in memory (Memory), and in one file behind it (Open).
//
//	store.go   the interface, and the twin in memory
//	behind.go  memory in front of a disk that may fail, be full or be slow
//	file.go    the disk: a file, set aside where it is damaged
//	judge.go   whether a file is damaged, found out in a process of its own
package store
