package nnunet

// RawCase is one training case.
type RawCase struct {
	Name   string
	Images []string // a file for each channel, or one that holds all of them
	Label  string
}
