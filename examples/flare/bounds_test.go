package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/libflare/libflare/segment"
)

func TestBoundsOfACall(t *testing.T) {
	b, err := parseBox("1, 2,3,4,5,6")
	assert.NoError(t, err)
	assert.Equal(t, segment.Box{Lo: [3]int{1, 2, 3}, Hi: [3]int{4, 5, 6}}, b)
	for _, bad := range []string{"1,2,3", "1,2,3,4,5,x", "0,0,0,0,0,0", "1,2,3,4,5,6,7"} {
		_, err := parseBox(bad)
		assert.Equal(t, segment.ErrArgument, segment.KindOf(err), bad)
		assert.ErrorContains(t, err, bad)
	}
	labels := []segment.Label{{Name: "background"}, {Name: "liver", Value: 1}, {Name: "left kidney", Value: 13}}
	roi, err := parseROI("Left Kidney,1", labels)
	assert.NoError(t, err)
	assert.Equal(t, []int{13, 1}, roi)
	_, err = parseROI("heart", labels)
	assert.ErrorContains(t, err, `no label "heart"; it has background, liver, left kidney`)
	for text, want := range map[string]int64{"": 0, "123": 123, "2GB": 2e9, "1.5GiB": 3 << 29, "10 mb": 1e7} {
		n, err := parseSize("--max-memory", text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, n, text)
	}
	for _, bad := range []string{"0", "-1", "GB", "1TBB", "x"} {
		_, err := parseSize("--gpu-memory", bad)
		assert.Equal(t, segment.ErrArgument, segment.KindOf(err), bad)
		assert.ErrorContains(t, err, "--gpu-memory is ")
	}
}
