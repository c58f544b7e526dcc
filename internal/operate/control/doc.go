// Package control is the local API of a running gateway: what the command
// line asks and what the gateway answers, as JSON over a unix socket (a named
// pipe on Windows).
//
// The rows in this file are the lines of the manual's print menus. A JSON key
// is the manual's name of the property; the order of the fields is the order
// in which a menu prints them. A field with a flag tag is one letter of the
// flags column, and its JSON key is the word in the legend.
package control
