// Package vectors reads published test vectors, which are kept beside the
// repository in ../shared/vectors. Only tests import it.
package vectors
