// Package fileowner finds files with secrets that belong to another user than the one that
// the gateway runs as.
package fileowner
