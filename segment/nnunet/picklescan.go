package nnunet

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// maxOps bounds the memory that a small pickle can ask for: an opcode of one
// byte makes an object of up to some hundred bytes. A checkpoint of a thousand
// epochs has about a hundred thousand opcodes.
const maxOps = 1 << 20

// Arguments of pickle opcodes (Python's Lib/pickletools.py).
const (
	argNone   = iota + 1 // no argument
	argFixed1            // so many bytes
	argFixed2
	argFixed4
	argFixed8
	argLine   // text up to a newline
	argLines2 // two of them
	argBytes1 // a length of 1, 4 or 8 bytes and so many bytes
	argBytes4
	argBytes8
	argLong1 // as argBytes1 and argBytes4, a whole number
	argLong4
	argFrame // a length of 8 bytes; what it counts follows as opcodes
)

// opcodes holds the argument of every opcode that we let through to gopickle.
// Extension codes and out-of-band buffers are not among them.
var opcodes = func() (t [256]byte) {
	for arg, ops := range map[byte]string{
		argNone:   "(.012NQRabde}l]ost)u\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94",
		argFixed1: "Khq\x80",
		argFixed2: "M",
		argFixed4: "Jjr",
		argFixed8: "G",
		argLine:   "FILPSVgp",
		argLines2: "ci",
		argBytes1: "UC\x8c",
		argBytes4: "TXB",
		argBytes8: "\x8d\x8e\x96",
		argLong1:  "\x8a",
		argLong4:  "\x8b",
		argFrame:  "\x95",
	} {
		for _, op := range []byte(ops) {
			t[op] = arg
		}
	}
	return t
}()

// scanPickle walks the opcodes of a pickle once and refuses what gopickle
// would take on trust: lengths beyond the data (it allocates before it reads),
// numbers of many digits (it needs quadratic time for them), unknown opcodes
// and endless streams.
func scanPickle(data []byte) error {
	rest := data
	take := func(n uint64) []byte {
		if n > uint64(len(rest)) {
			return nil
		}
		b := rest[:n:n]
		rest = rest[n:]
		return b
	}
	for ops := 0; ; ops++ {
		if len(rest) == 0 {
			return fmt.Errorf("truncated pickle: no STOP opcode in %d bytes", len(data))
		}
		if ops == maxOps {
			return fmt.Errorf("a pickle of more than %d opcodes is refused", maxOps)
		}
		at, op := len(data)-len(rest), rest[0]
		rest = rest[1:]
		ok := true
		switch arg := opcodes[op]; arg {
		case argNone:
			if op == '.' {
				return nil
			}
		case argFixed1, argFixed2, argFixed4, argFixed8:
			ok = take(1<<(arg-argFixed1)) != nil
		case argLine, argLines2:
			for range arg - argLine + 1 {
				n := bytes.IndexByte(rest, '\n')
				numeral := op == 'L' || op == 'I' || op == 'F' || op == 'g' || op == 'p'
				if n < 0 || numeral && n > 64 {
					ok = false
					break
				}
				take(uint64(n) + 1)
			}
		case argBytes1, argLong1:
			n := take(1)
			// A number of no bytes would be 0, which Python writes shorter.
			ok = n != nil && take(uint64(n[0])) != nil && (arg != argLong1 || n[0] > 0)
		case argBytes4, argLong4:
			n := take(4)
			ok = n != nil
			if ok {
				v := binary.LittleEndian.Uint32(n)
				ok = take(uint64(v)) != nil && (arg != argLong4 || v > 0 && v <= 256)
			}
		case argBytes8:
			n := take(8)
			ok = n != nil && take(binary.LittleEndian.Uint64(n)) != nil
		case argFrame:
			n := take(8)
			ok = n != nil && binary.LittleEndian.Uint64(n) <= uint64(len(rest))
		default:
			return fmt.Errorf("malformed pickle: opcode 0x%02x at byte %d is not one that PyTorch writes", op, at)
		}
		if !ok {
			return fmt.Errorf("malformed pickle: the argument of opcode 0x%02x at byte %d is too long or missing", op, at)
		}
	}
}
