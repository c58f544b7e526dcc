// Package table writes the rows of the print menus for people.
package table
