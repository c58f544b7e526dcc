package table

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"culvert/internal/operate/control"
)

// columns is how the rows of one menu are shown, read from the tags of the
// row's type: first its number, then flags, then properties.
type columns struct {
	flags      []property
	properties []property
}

type property struct {
	name   string // the manual's
	letter string // of a flag
	field  []int  // see reflect.VisibleFields
	number bool   // set to the right
	detail bool   // not in tables
}

// number of the row comes first in every row type.
const numberField = 0

func columnsOf(row reflect.Type) (c columns) {
	for _, f := range reflect.VisibleFields(row)[numberField+1:] {
		if f.Anonymous {
			continue // its fields follow
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := property{name: name, letter: f.Tag.Get("flag"), field: f.Index, detail: f.Tag.Get("detail") != ""}
		switch f.Type.Kind() {
		case reflect.Int, reflect.Uint64:
			p.number = true
		}
		if p.letter != "" {
			c.flags = append(c.flags, p)
		} else {
			c.properties = append(c.properties, p)
		}
	}
	return c
}

// legend is the manual's line above a table: "Flags: T - template, X - disabled".
func (c columns) legend() string {
	if len(c.flags) == 0 {
		return ""
	}
	var words []string
	for _, f := range c.flags {
		words = append(words, f.letter+" - "+f.name)
	}
	return "Flags: " + strings.Join(words, ", ") + "\n"
}

// letters are the flags that a row has.
func (c columns) letters(row reflect.Value) string {
	var b strings.Builder
	for _, f := range c.flags {
		if row.FieldByIndex(f.field).Bool() {
			b.WriteString(f.letter)
		}
	}
	return b.String()
}

// text is a property as the manual prints it.
func text(v reflect.Value) string {
	if c, ok := v.Interface().(fmt.Stringer); ok {
		return c.String()
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return "yes"
		}
		return "no"
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	}
	return printable(v.String())
}

// printable keeps what a stranger chose, such as an identity, from steering the terminal.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(s) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

const noEntries = "(no entries)\n"

// Write writes aligned columns. Columns without any value are left out.
// If width is not 0, it is the terminal's, and a table that does not fit is
// written as WriteDetail does: nothing is ever cut off.
func Write[T any](w io.Writer, rows []T, width int) error {
	c := columnsOf(reflect.TypeFor[T]())
	if len(rows) == 0 {
		_, err := io.WriteString(w, c.legend()+noEntries)
		return err
	}
	cells, right := c.cells(reflect.ValueOf(rows))
	widths := make([]int, len(right))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := -2
	for _, n := range widths {
		total += n + 2
	}
	if width > 0 && total > width {
		return WriteDetail(w, rows, width)
	}
	var b strings.Builder
	b.WriteString(c.legend())
	for _, line := range cells {
		var l strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			if i > 0 {
				l.WriteString("  ")
			}
			l.WriteString(cell)
		}
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cells are the header and the lines of a table, and which columns are set to the right.
func (c columns) cells(rows reflect.Value) (cells [][]string, right []bool) {
	header, right := []string{"#"}, []bool{true}
	withFlags := false
	for i := range rows.Len() {
		withFlags = withFlags || c.letters(rows.Index(i)) != ""
	}
	if withFlags {
		header, right = append(header, ""), append(right, false)
	}
	var used []property
	for _, p := range c.properties {
		for i := range rows.Len() {
			if !p.detail && text(rows.Index(i).FieldByIndex(p.field)) != "" {
				used = append(used, p)
				header, right = append(header, strings.ToUpper(p.name)), append(right, p.number)
				break
			}
		}
	}
	cells = append(cells, header)
	for i := range rows.Len() {
		row := rows.Index(i)
		line := []string{text(row.Field(numberField))}
		if withFlags {
			line = append(line, c.letters(row))
		}
		for _, p := range used {
			line = append(line, text(row.FieldByIndex(p.field)))
		}
		cells = append(cells, line)
	}
	return cells, right
}

// WriteDetail writes every row as the manual's examples do: number, flags and
// name=value, an empty line between rows, broken at width unless that is 0.
func WriteDetail[T any](w io.Writer, rows []T, width int) error {
	c := columnsOf(reflect.TypeFor[T]())
	var b strings.Builder
	b.WriteString(c.legend())
	if len(rows) == 0 {
		b.WriteString(noEntries)
	}
	const indent = "    "
	for i := range rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		row := reflect.ValueOf(&rows[i]).Elem()
		words := []string{text(row.Field(numberField))}
		if letters := c.letters(row); letters != "" {
			words = append(words, letters)
		}
		for _, p := range c.properties {
			value := text(row.FieldByIndex(p.field))
			if value == "" {
				continue
			}
			if strings.ContainsAny(value, " \"") {
				value = strconv.Quote(value)
			}
			words = append(words, p.name+"="+value)
		}
		column := 0
		for j, word := range words {
			n := utf8.RuneCountInString(word)
			switch {
			case j == 0:
			case width > 0 && column+1+n > width:
				b.WriteString("\n" + indent)
				column = len(indent)
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += n
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notes are of counters that people take for faults.
var notes = map[string]string{
	"out-link-local": "MLD, router solicitations and the like: what hosts say to every link",
}

// WriteStatistics writes one counter per line, names set to the right as the manual
// does: all of them, or those that are not 0.
func WriteStatistics(w io.Writer, rows []control.Statistic, all bool) error {
	var b strings.Builder
	rows = slices.DeleteFunc(slices.Clone(rows), func(r control.Statistic) bool { return !all && r.Value == 0 })
	width := 0
	for _, r := range rows {
		width = max(width, len(r.Name))
	}
	for _, r := range rows {
		note := notes[r.Name]
		if note != "" {
			note = " (" + note + ")"
		}
		fmt.Fprintf(&b, "%*s: %d%s\n", width, r.Name, r.Value, note)
	}
	if len(rows) == 0 {
		b.WriteString("(nothing was counted; --all prints every counter)\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
