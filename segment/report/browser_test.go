package report

import (
	"regexp"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
)

// probe works the page's controls once it is drawn, and leaves in <html data-probe> what
// the canvas, the text beside it and the title are then: [grey pixels, pixels in the colour of no
// grey, the text] each time.
const probe = `<script>
const found = { states: {}, errors: [] }
window.addEventListener('error', (e) => found.errors.push(e.message))
document.addEventListener('securitypolicyviolation', (e) => found.errors.push(e.violatedDirective + ' ' + e.blockedURI))
const look = (name, act) => {
	act()
	const gl = document.getElementById('canvas').getContext('webgl2')
	const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight]
	const p = new Uint8Array(4 * w * h)
	gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, p)
	let grey = 0, colour = 0
	for (let i = 0; i < p.length; i += 4) {
		const spread = Math.max(p[i], p[i + 1], p[i + 2]) - Math.min(p[i], p[i + 1], p[i + 2])
		if (spread > 25) colour++
		else if (p[i] > 30) grey++
	}
	found.states[name] = [grey, colour, document.getElementById('place').textContent]
}
const click = (selector, text) => () =>
	[...document.querySelectorAll(selector)].find((e) => !text || e.textContent.startsWith(text)).click()
const wait = setInterval(() => {
	const viewer = document.documentElement.dataset.viewer
	if (!viewer || viewer === 'opening') return
	clearInterval(wait)
	if (viewer === 'drawn') {
		look('first', click('#windows button'))
		look('jump', click('.jump[data-organ="1"]'))
		look('hidden', click('#all'))
		look('shown', click('#all'))
		look('lung', click('#windows button + button'))
		const layout = document.querySelector('#layouts button + button')
		if (layout) look('render', () => layout.click())
	}
	found.title = document.title
	document.documentElement.dataset.probe = JSON.stringify(found)
}, 50)
</script>
`

// TestInBrowser opens pages and works their controls: nothing may be fetched or go wrong, and
// image and organs must be on the canvas.
func TestInBrowser(t *testing.T) {
	type found struct {
		States map[string][3]any
		Errors []string
		Title  string
	}
	sagittal := grid(60, 50, 1)
	sagittal.Direction = [9]float64{0, 0, 1, 1, 0, 0, 0, -1, 0}
	for name, g := range map[string]volume.Geometry{"CT": grid(60, 50, 20), "2-D, not CT": grid(60, 50, 1), "2-D, sagittal": sagittal} {
		t.Run(name, func(t *testing.T) {
			image, labels := cube(t, g)
			ct := g.Size[2] > 1
			text := page(t, image, labels, bar, ct)
			document, console := testenv.Browse(t, strings.Replace(text, "</body>", probe+"</body>", 1))
			assert.Empty(t, console)
			tag := regexp.MustCompile(`<html[^>]*>`).FindString(document)
			assert.Contains(t, tag, `data-viewer="drawn"`)
			var f found
			testenv.Probed(t, document, &f)
			assert.Empty(t, f.Errors)
			assert.Contains(t, f.Title, "<img src=x", "the name as it is, which was not run")
			grey := func(state string) float64 { return f.States[state][0].(float64) }
			colour := func(state string) float64 { return f.States[state][1].(float64) }
			if ct {
				assert.Contains(t, f.States["first"][2], hostile[:10], "the cross-hair begins in the largest organ")
				assert.NotEqual(t, grey("lung"), grey("shown"), "another window")
			}
			assert.Contains(t, f.States["jump"][2], "cube")
			assert.Greater(t, colour("jump"), 1000.0, "organs are there")
			assert.Less(t, colour("hidden"), colour("jump")/2, "the cross-hair alone")
			assert.Greater(t, grey("hidden"), 1000.0, "the image is there")
			assert.Equal(t, f.States["jump"], f.States["shown"])
			if ct {
				assert.Contains(t, f.States["jump"][2], "HU")
				assert.Greater(t, colour("render"), 1000.0, "organs in 3-D")
			}
		})
	}
}

// TestWithoutWebGL: the pictures stand in the view's place.
func TestWithoutWebGL(t *testing.T) {
	image, labels := cube(t, grid(60, 50, 20))
	script := `<script>
const wait = setInterval(() => {
	const root = document.documentElement
	if (root.dataset.viewer !== 'failed') return
	clearInterval(wait)
	root.dataset.probe = [...document.querySelectorAll('.static img')].map((i) => i.complete && i.naturalWidth > 0 && (i.offsetWidth / i.offsetHeight).toFixed(2))
		+ ' ' + document.getElementById('canvas').offsetWidth + ' ' + document.getElementById('failed').textContent
}, 50)
</script>
`
	text := strings.Replace(page(t, image, labels, bar, true), "</body>", script+"</body>", 1)
	document, _ := testenv.Browse(t, text, "--disable-gpu", "--disable-3d-apis")
	tag := regexp.MustCompile(`<html[^>]*>`).FindString(document)
	// 60 x 0.7, 50 x 0.8 and 20 x 2.5 mm: 42/40, 42/50, 40/50.
	assert.Contains(t, tag, `data-probe="1.05,0.84,0.80 0 The view needs a newer browser, or WebGL 2`)
}
