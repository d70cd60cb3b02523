// Holds a log against Go's own implementation of transparent logs (golang.org/x/mod/sumdb): the hashes of leaves, roots,
// proofs and signed notes of a tree that somebody else made. It reads one JSON object from standard input and answers with
// the first difference, or how much it compared. No module is fetched: the package is Debian's golang-golang-x-mod-dev.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A tree: its leaves, the root at each size from 0 on, and proofs.
type tree struct {
	Vkey        string
	Notes       []string
	Leaves      [][]byte
	Roots       [][]byte
	Inclusion   []proof
	Consistency []proof
}

// First is an index, or the smaller size; Size is that of the tree.
type proof struct {
	First, Size int64
	Path        [][]byte
}

func main() {
	var told tree
	if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
		fail("input: %v", err)
	}
	var kept hashes
	for n, leaf := range told.Leaves {
		stored, err := tlog.StoredHashes(int64(n), leaf, &kept)
		if err != nil {
			fail("leaf %d: %v", n, err)
		}
		kept = append(kept, stored...)
		root, err := tlog.TreeHash(int64(n+1), &kept)
		if err != nil || !bytes.Equal(root[:], told.Roots[n+1]) {
			fail("the root of %d leaves: %v %v, not %x", n+1, err, root, told.Roots[n+1])
		}
	}
	for _, p := range told.Inclusion {
		made, err := tlog.ProveRecord(p.Size, p.First, &kept)
		same(fmt.Sprintf("leaf %d of %d", p.First, p.Size), p, made, err)
		leaf := tlog.RecordHash(told.Leaves[p.First])
		if err := tlog.CheckRecord(made, p.Size, told.root(p.Size), p.First, leaf); err != nil {
			fail("leaf %d of %d: %v", p.First, p.Size, err)
		}
	}
	for _, p := range told.Consistency {
		made, err := tlog.ProveTree(p.Size, p.First, &kept)
		same(fmt.Sprintf("%d to %d", p.First, p.Size), p, made, err)
		if err := tlog.CheckTree(made, p.Size, told.root(p.Size), p.First, told.root(p.First)); err != nil {
			fail("%d to %d: %v", p.First, p.Size, err)
		}
	}
	told.checkNotes()
	fmt.Printf("%d roots, %d and %d proofs, %d notes\n", len(told.Leaves), len(told.Inclusion), len(told.Consistency), len(told.Notes))
}

// checkNotes opens each note with the key and compares its size and root.
func (t *tree) checkNotes() {
	verifier, err := note.NewVerifier(t.Vkey)
	if err != nil {
		fail("the key: %v", err)
	}
	for _, signed := range t.Notes {
		opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
		if err != nil {
			fail("a note: %v", err)
		}
		var size int64
		lines := strings.Split(opened.Text, "\n")
		if len(lines) < 4 || lines[0] != verifier.Name() {
			fail("a note of another form: %q", opened.Text)
		}
		if _, err := fmt.Sscan(lines[1], &size); err != nil || lines[2] != t.root(size).String() {
			fail("a note says %q, not %v", opened.Text, t.root(size))
		}
	}
}

func (t *tree) root(size int64) (root tlog.Hash) {
	copy(root[:], t.Roots[size])
	return root
}

func same(what string, told proof, made []tlog.Hash, err error) {
	if err != nil || len(made) != len(told.Path) {
		fail("%s: %v, %d hashes, not %d", what, err, len(made), len(told.Path))
	}
	for n, hash := range made {
		if !bytes.Equal(hash[:], told.Path[n]) {
			fail("%s: hash %d of the proof is %v, not %x", what, n, hash, told.Path[n])
		}
	}
}

// hashes are those that Go keeps of a tree, by its own numbering.
type hashes []tlog.Hash

func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var read []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(*h)) {
			return nil, fmt.Errorf("there is no hash %d", index)
		}
		read = append(read, (*h)[index])
	}
	return read, nil
}

func fail(format string, what ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", what...)
	os.Exit(1)
}
