package imageio

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// colours are red, green and blue of abdominal organs, as atlases draw them but told apart; by the
// words of a label's name, see words.
var colours = map[string][3]uint8{
	words("liver"):              {178, 92, 74},
	words("kidney"):             {221, 163, 72},
	words("right kidney"):       {228, 176, 84},
	words("left kidney"):        {214, 150, 60},
	words("spleen"):             {149, 96, 168},
	words("pancreas"):           {240, 214, 130},
	words("aorta"):              {222, 66, 66},
	words("inferior vena cava"): {66, 120, 200},
	words("adrenal"):            {102, 186, 130},
	words("right adrenal"):      {120, 200, 140},
	words("left adrenal"):       {84, 172, 120},
	words("gallbladder"):        {122, 178, 66},
	words("esophagus"):          {206, 146, 130},
	words("stomach"):            {230, 130, 160},
	words("duodenum"):           {250, 180, 130},
}

var otherNames = map[string]string{
	words("gall bladder"): words("gallbladder"),
	words("oesophagus"):   words("esophagus"),
	words("postcava"):     words("inferior vena cava"),
	words("IVC"):          words("inferior vena cava"),
}

// words are those of a name in alphabetical order without "gland": "Kidney_right" is "kidney right".
func words(name string) string {
	list := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	list = slices.DeleteFunc(list, func(word string) bool { return word == "gland" })
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// Colour gives a label red, green and blue: that of the organ which it is named after, or hues that
// go round by the golden angle, so that neighbouring numbers differ. The Python package's
// flare.organs.colour is the same.
func Colour(label int, name string) (rgb [3]uint8) {
	known := words(name)
	if usual, ok := otherNames[known]; ok {
		known = usual
	}
	if rgb, ok := colours[known]; ok {
		return rgb
	}
	hue := math.Mod(float64(label)*137.508, 360) / 60
	for i, n := range []float64{5, 3, 1} { // HSV with saturation 0.65 and value 1
		k := math.Mod(n+hue, 6)
		rgb[i] = uint8(math.Round(255 * (1 - 0.65*max(0, min(k, 4-k, 1)))))
	}
	return rgb
}
