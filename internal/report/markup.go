package report

import (
	"bufio"
	"html"
	"io"
)

// markup is the name of an element or attribute, or whole HTML. It is always written as a literal in this
// package and never made of data; a test holds that.
type markup string

// An attribute's value may be data.
type attribute struct {
	name  markup
	value string
}

// A page is HTML that is being written. Data gets into it only through text and the values of attributes,
// which escape it. After the first error nothing more is written; Flush returns that error.
type page struct{ *bufio.Writer }

func newPage(w io.Writer) page { return page{bufio.NewWriterSize(w, 64<<10)} }

func (p page) markup(m markup) { _, _ = p.WriteString(string(m)) }

func (p page) text(text string) { _, _ = p.WriteString(html.EscapeString(Clean(text))) }

func (p page) open(name markup, attributes ...attribute) {
	p.markup("<")
	p.markup(name)
	for _, a := range attributes {
		p.markup(" ")
		p.markup(a.name)
		p.markup(`="`)
		p.text(a.value)
		p.markup(`"`)
	}
	p.markup(">")
}

func (p page) shut(name markup) {
	p.markup("</")
	p.markup(name)
	p.markup(">")
}

// element writes an element around what inside writes.
func (p page) element(name markup, inside func(), attributes ...attribute) {
	p.open(name, attributes...)
	inside()
	p.shut(name)
}

// line writes an element that contains a text.
func (p page) line(name markup, text string, attributes ...attribute) {
	p.open(name, attributes...)
	p.text(text)
	p.shut(name)
}

func class(name string) attribute { return attribute{"class", name} }
