// Command capi is libflare's C edge: built with -buildmode=c-shared it is
// libflare.so.1, the library behind include/flare.h. build.sh has the command.
//
// A call passes through three layers, each in one file:
//
//	flare.c, image.c, trainer.c, student.c
//	            the public functions. Plain C: refuses forked processes, NULL
//	            and misfit structs before Go is entered, and keeps the error
//	            text of the calling thread, which Go cannot do because it moves
//	            goroutines between threads.
//	exports.go, image.go, trainer.go, evaluate.go, student.go
//	            one private Go export (flareGo...) for each of them: turns C
//	            values into Go values, without copying voxels, and calls package
//	            segment (image.go: package imageio, evaluate.go: package evaluate).
//	edge.go     what every export runs inside: a panic becomes FLARE_ERR_PANIC
//	            instead of the end of the host process, and poisons the library,
//	            because state that a panic left half-changed is not to be trusted.
//
// handles.go maps the numbers that C holds to models, images, trainers and labellers and to the
// calls running on them. flare.map hides every symbol but flare_*; so nothing private, C or Go,
// may start with flare_. Memory that goes to C comes from malloc.
//
// Nothing here prints, exits, reads the environment or starts a goroutine.
package main

func main() {} // c-shared asks for a main; it never runs
