package evaluate

import (
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// probe leaves in <html data-probe> what is seen of the page once it is loaded: of each plot the
// names and boxes, as [middle of the height, width, height], and of each picture its sizes.
const probe = `<script>
const found = { plots: [], pictures: [], errors: [], fetched: [] }
window.addEventListener('error', (e) => found.errors.push(String(e.message)), true)
document.addEventListener('securitypolicyviolation', (e) => found.errors.push(e.violatedDirective + ' ' + e.blockedURI))
window.addEventListener('load', () => {
	const all = (where, what) => [...where.querySelectorAll(what)]
	const size = (e) => { const r = e.getBoundingClientRect(); return [r.top + r.height / 2, r.width, r.height] }
	for (const svg of all(document, 'svg'))
		found.plots.push({ title: svg.querySelector('.title').textContent, size: size(svg), names: all(svg, '.name').map((e) => e.textContent),
			rows: all(svg, '.name').map(size), boxes: all(svg, '.box').map(size), cut: all(svg, 'text').filter((e) => e.getBoundingClientRect().left < svg.getBoundingClientRect().left || e.getBoundingClientRect().right > svg.getBoundingClientRect().right).length,
			beyond: all(svg, '.beyond').map((e) => e.textContent) })
	for (const figure of all(document, 'figure')) {
		const img = figure.querySelector('img')
		found.pictures.push({ caption: figure.querySelector('b').textContent, drawn: img.complete && img.naturalWidth, size: size(img) })
	}
	found.fetched = performance.getEntriesByType('resource').map((e) => e.name).filter((name) => !name.startsWith('data:'))
	found.wide = document.documentElement.scrollWidth - window.innerWidth
	document.documentElement.dataset.probe = JSON.stringify(found)
})
</script>
`

// TestReportInBrowser opens the page of six cases with two organs: nothing may be fetched or go wrong,
// and a box of each organ and a picture of each of the worst must be seen.
func TestReportInBrowser(t *testing.T) {
	dir := t.TempDir()
	const hostile = `<img src=x onerror="document.title='taken'"> & ärzt`
	for i, name := range []string{"a", "b", "c", "d", "e", hostileFile} {
		for folder, shift := range map[string]int{"pred": i % 4, "ref": 0} {
			v := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
			for z := range 8 { // organ 2 is a bar, which the last prediction has elsewhere
				if name != hostileFile || folder == "ref" {
					v.Data[(z*10+8)*12+8+min(shift, z/3)] = 2
				}
			}
			if folder == "pred" {
				for z := range shift {
					clear(v.Data[(z+2)*120 : (z+2)*120+96])
				}
			}
			write(t, v, dir, folder, name+".nii.gz")
		}
	}
	far := cube(2, [3]int{0, 0, 0}, [3]int{1, 1, 1}) // the last prediction: organ 2 far away
	for x := 2; x < 6; x++ {
		far.Data[(3*10+3)*12+x] = 1
	}
	write(t, far, dir, "pred", hostileFile+".nii.gz")

	r, err := Files(t.Context(), dir+"/pred", dir+"/ref", Options{Labels: []Label{{Value: 1, Name: hostile}, {Value: 2, Name: "bar"}}})
	require.NoError(t, err)
	page, err := r.HTML(t.Context())
	require.NoError(t, err)
	text := strings.Replace(string(page), "style-src", "script-src 'unsafe-inline'; style-src", 1) // for the probe
	document, console := testenv.Browse(t, strings.Replace(text, "</head>", probe+"</head>", 1))
	assert.Empty(t, console)
	assert.Contains(t, document, "<title>Segmentation scores</title>")

	type box [3]float64
	var found struct {
		Plots []struct {
			Title         string
			Size          box
			Names, Beyond []string
			Rows, Boxes   []box
			Cut           int // texts
		}
		Pictures []struct {
			Caption string
			Drawn   any
			Size    box
		}
		Errors, Fetched []string
		Wide            float64
	}
	testenv.Probed(t, document, &found)
	assert.Empty(t, found.Errors)
	assert.Empty(t, found.Fetched)
	assert.LessOrEqual(t, found.Wide, 0.0, "the page scrolls sideways")

	require.Len(t, found.Plots, 3)
	for i, p := range found.Plots {
		assert.Equal(t, []string{"DSC", "NSD", "HD95 mm"}[i], p.Title)
		assert.Equal(t, []string{"1 (" + hostile + ")", "2 (bar)"}, p.Names)
		assert.Greater(t, p.Size[1], 500.0)
		assert.Zero(t, p.Cut, p.Title)
		require.Len(t, p.Boxes, 2, p.Title)
		for k, b := range p.Boxes {
			assert.InDelta(t, p.Rows[k][0], b[0], 3, "%s: the box of organ %d is beside its name", p.Title, k+1)
			assert.GreaterOrEqual(t, b[1], 1.0)
			assert.InDelta(t, 14, b[2], 3)
		}
	}
	bad := 0
	for _, c := range r.Cases {
		for _, s := range c.Scores {
			if s.DSC < 1 {
				bad++
			}
		}
	}
	require.Len(t, found.Pictures, min(bad, worstCases))
	assert.Greater(t, bad, 5)
	for _, p := range found.Pictures {
		assert.Greater(t, p.Drawn, 3.0, p.Caption)
		assert.InDelta(t, pictureSide, max(p.Size[1], p.Size[2]), 6, p.Caption)
		assert.Greater(t, min(p.Size[1], p.Size[2]), 20.0, p.Caption)
	}
	assert.Equal(t, hostileFile, found.Pictures[0].Caption)
	assert.Len(t, found.Plots[2].Beyond, 1, "the organ that is far away does not press the boxes together")
}

// hostileFile is the name of a case that is no plain text in HTML.
const hostileFile = "z <b>&amp;"
