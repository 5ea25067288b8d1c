// An independent judge of notes, proofs and tiles: Go's golang.org/x/mod/sumdb/note and tlog.
//
// It reads one JSON request a line and answers each with one JSON line. An answer has "error" if the
// check failed. Tests of crates/zero-proof build and run it:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build main.go
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Op      string      `json:"op"`
	Name    string      `json:"name"`
	Seed    []byte      `json:"seed"`
	Vkeys   []string    `json:"vkeys"`
	Text    string      `json:"text"`
	Dir     string      `json:"dir"`
	Size    int64       `json:"size"`
	Root    tlog.Hash   `json:"root"`
	OldSize int64       `json:"old_size"`
	OldRoot tlog.Hash   `json:"old_root"`
	Index   int64       `json:"index"`
	Leaf    tlog.Hash   `json:"leaf"`
	Proof   []tlog.Hash `json:"proof"`
}

type answer struct {
	Error       string      `json:"error,omitempty"`
	Text        string      `json:"text,omitempty"`
	Vkey        string      `json:"vkey,omitempty"`
	Signers     []string    `json:"signers,omitempty"`
	Root        *tlog.Hash  `json:"root,omitempty"`
	OldRoot     *tlog.Hash  `json:"old_root,omitempty"`
	Leaf        *tlog.Hash  `json:"leaf,omitempty"`
	Inclusion   []tlog.Hash `json:"inclusion,omitempty"`
	Consistency []tlog.Hash `json:"consistency,omitempty"`
	Checked     int64       `json:"checked,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r request
		var a answer
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			a, err = judge(r)
		}
		if err != nil {
			a = answer{Error: err.Error()}
		}
		line, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", line)
	}
}

func judge(r request) (answer, error) {
	switch r.Op {
	case "open":
		return open(r)
	case "sign":
		return sign(r)
	case "check_inclusion":
		return answer{}, tlog.CheckRecord(r.Proof, r.Size, r.Root, r.Index, r.Leaf)
	case "check_consistency":
		return answer{}, tlog.CheckTree(r.Proof, r.Size, r.Root, r.OldSize, r.OldRoot)
	case "prove":
		return prove(r)
	case "check_tiles":
		return checkTiles(r)
	case "write_tiles":
		return writeTiles(r)
	}
	return answer{}, fmt.Errorf("unknown op %q", r.Op)
}

// open verifies a note with any of the keys.
func open(r request) (answer, error) {
	var verifiers []note.Verifier
	for _, vkey := range r.Vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return answer{}, err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open([]byte(r.Text), note.VerifierList(verifiers...))
	if err != nil {
		return answer{}, err
	}
	a := answer{Text: opened.Text}
	for _, signature := range opened.Sigs {
		a.Signers = append(a.Signers, signature.Name)
	}
	return a, nil
}

// sign makes a note with the Ed25519 key of a seed.
func sign(r request) (answer, error) {
	public := ed25519.NewKeyFromSeed(r.Seed).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(r.Name, public)
	if err != nil {
		return answer{}, err
	}
	id := strings.Split(vkey, "+")[1]
	private := base64.StdEncoding.EncodeToString(append([]byte{1}, r.Seed...))
	signer, err := note.NewSigner("PRIVATE+KEY+" + r.Name + "+" + id + "+" + private)
	if err != nil {
		return answer{}, err
	}
	signed, err := note.Sign(&note.Note{Text: r.Text}, signer)
	return answer{Text: string(signed), Vkey: vkey}, err
}

// stored holds the hashes of the tree whose entries are "0", "1", "2" ...
var stored []tlog.Hash
var storedLeaves int64

var reader = tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = stored[index]
	}
	return hashes, nil
})

func grow(size int64) error {
	for ; storedLeaves < size; storedLeaves++ {
		hashes, err := tlog.StoredHashes(storedLeaves, []byte(strconv.FormatInt(storedLeaves, 10)), reader)
		if err != nil {
			return err
		}
		stored = append(stored, hashes...)
	}
	return nil
}

// prove makes both proofs in the numbered tree.
func prove(r request) (answer, error) {
	if err := grow(r.Size); err != nil {
		return answer{}, err
	}
	root, err := tlog.TreeHash(r.Size, reader)
	if err != nil {
		return answer{}, err
	}
	oldRoot, err := tlog.TreeHash(r.OldSize, reader)
	if err != nil {
		return answer{}, err
	}
	inclusion, err := tlog.ProveRecord(r.Size, r.Index, reader)
	if err != nil {
		return answer{}, err
	}
	consistency, err := tlog.ProveTree(r.Size, r.OldSize, reader)
	if err != nil {
		return answer{}, err
	}
	leaf := stored[tlog.StoredHashIndex(0, r.Index)]
	return answer{Root: &root, OldRoot: &oldRoot, Leaf: &leaf, Inclusion: inclusion, Consistency: consistency}, nil
}

const height = 8

// path is the place of a tile: C2SP tlog-tiles leaves out the height.
func path(dir string, tile tlog.Tile) string {
	return filepath.Join(dir, strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1))
}

type directory string

func (d directory) Height() int { return height }

func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var contents [][]byte
	for _, tile := range tiles {
		content, err := os.ReadFile(path(string(d), tile))
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

// checkTiles authenticates the hash of every leaf in a directory of tiles, and checks that each
// entry has that hash.
func checkTiles(r request) (answer, error) {
	tiles := tlog.TileHashReader(tlog.Tree{N: r.Size, Hash: r.Root}, directory(r.Dir))
	for first := int64(0); first < r.Size; first += 1 << height {
		width := r.Size - first
		if width > 1<<height {
			width = 1 << height
		}
		var indexes []int64
		for i := int64(0); i < width; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+i))
		}
		hashes, err := tiles.ReadHashes(indexes)
		if err != nil {
			return answer{}, err
		}
		bundle := tlog.Tile{H: height, L: 0, N: first >> height, W: int(width)}
		name := strings.Replace(path(r.Dir, bundle), "/tile/0/", "/tile/entries/", 1)
		content, err := os.ReadFile(name)
		if err != nil {
			return answer{}, err
		}
		for i, hash := range hashes {
			if len(content) < 2 {
				return answer{}, errors.New(name + ": too few entries")
			}
			length := 2 + int(binary.BigEndian.Uint16(content))
			if len(content) < length {
				return answer{}, errors.New(name + ": an entry is truncated")
			}
			if tlog.RecordHash(content[2:length]) != hash {
				return answer{}, fmt.Errorf("%s: entry %d is not that of its leaf", name, i)
			}
			content = content[length:]
		}
		if len(content) > 0 {
			return answer{}, errors.New(name + ": too many entries")
		}
	}
	return answer{Checked: r.Size}, nil
}

// writeTiles writes the tiles of the numbered tree, with its entries.
func writeTiles(r request) (answer, error) {
	if err := grow(r.Size); err != nil {
		return answer{}, err
	}
	write := func(name string, content []byte) error {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		return os.WriteFile(name, content, 0o600)
	}
	for _, tile := range tlog.NewTiles(height, 0, r.Size) {
		// Only the partial tiles of this size, not those of all sizes before it.
		count := r.Size >> uint(tile.L*height)
		if tile.W < 1<<height && tile.N<<height+int64(tile.W) != count {
			continue
		}
		content, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			return answer{}, err
		}
		if err := write(path(r.Dir, tile), content); err != nil {
			return answer{}, err
		}
		if tile.L > 0 {
			continue
		}
		var entries bytes.Buffer
		for i := 0; i < tile.W; i++ {
			entry := strconv.FormatInt(tile.N<<height+int64(i), 10)
			entries.Write([]byte{0, byte(len(entry))})
			entries.WriteString(entry)
		}
		name := strings.Replace(path(r.Dir, tile), "/tile/0/", "/tile/entries/", 1)
		if err := write(name, entries.Bytes()); err != nil {
			return answer{}, err
		}
	}
	root, err := tlog.TreeHash(r.Size, reader)
	return answer{Root: &root}, err
}
