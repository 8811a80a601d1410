package student

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// Cases in any order, by a teacher that is opened once, are those of Label.
func TestLabeller(t *testing.T) {
	live := cmem.Live()
	teacher := []string{randomBundle(t, plainDataset, []int{4, 8}, 1), randomBundle(t, plainDataset, []int{4, 8}, 2)}
	images := filepath.Join(toyFolder(t, 0, 3), "imagesTr")
	whole, single := labelOptions(t, teacher, images), labelOptions(t, teacher, images)
	_, err := Label(t.Context(), whole)
	require.NoError(t, err)

	l, err := OpenLabeller(t.Context(), single)
	require.NoError(t, err)
	assert.Equal(t, []string{"case_00", "case_01", "case_02"}, l.Cases)
	assert.Nil(t, l.opened)
	for _, name := range []string{"case_02", "case_00", "case_02"} {
		opened := l.opened
		r, err := l.Label(t.Context(), name)
		require.NoError(t, err)
		require.NoError(t, r.Err)
		assert.Equal(t, name, r.Scores.Case)
		assert.True(t, opened == nil || opened == l.opened)
	}
	_, err = l.Label(t.Context(), "case_07")
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "case_07")
	l.Close()

	again, err := OpenLabeller(t.Context(), single)
	require.NoError(t, err)
	r, err := again.Label(t.Context(), "case_00")
	require.NoError(t, err)
	assert.True(t, r.Kept)
	assert.Nil(t, again.opened)
	again.Close()

	for _, name := range []string{"case_00", "case_02"} {
		assert.Equal(t, read(t, filepath.Join(whole.Out, name+".nii.gz")), read(t, filepath.Join(single.Out, name+".nii.gz")))
	}
	assert.NoFileExists(t, filepath.Join(single.Out, "case_01.json"))
	assert.Equal(t, live, cmem.Live())
}
