package evaluate

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAreasAreThoseOfSurfaceDistance compares with the table of 256 areas that
// surface-distance makes for a spacing.
func TestAreasAreThoseOfSurfaceDistance(t *testing.T) {
	text, err := os.ReadFile("testdata/areas.json")
	require.NoError(t, err)
	var tables [][2][]float64
	require.NoError(t, json.Unmarshal(text, &tables))
	require.Len(t, tables, 2)
	for _, table := range tables {
		got := areas([3]float64(table[0]))
		require.Len(t, table[1], 256)
		for code, want := range table[1] {
			assert.InDelta(t, want, got[code], 1e-12*(1+want), "spacing %v, code %08b", table[0], code)
		}
	}
}
