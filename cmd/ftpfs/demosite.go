package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// demoLargeSize is the size of the sample site's large file, in bytes.
const demoLargeSize = 32 << 20

// makeSampleSite fills the new directory root with text, a picture and a large file.
func makeSampleSite(root string) error {
	for _, dir := range []string{"", "notes", "pictures"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	texts := map[string]string{
		"README.txt":         "A small site to try ftpfs on.\nnotes/ has text, pictures/ a picture, large.bin 32 MiB of noise.\n",
		"notes/islands.txt":  "North island: a lighthouse, two goats.\nSouth island: goats.\n",
		"notes/logbook.txt":  logbook(),
		"notes/names ü.txt":  "Names may have spaces and any letters.\n",
		"notes/.hidden.txt":  "Hidden files are shown, too: the lighthouse has a cellar.\n",
		"pictures/title.txt": "sunset.png: sunset behind the lighthouse\n",
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := writeSample(filepath.Join(root, "pictures", "sunset.png"), func(w io.Writer) error {
		return png.Encode(w, sunset(640, 400))
	}); err != nil {
		return err
	}
	return writeSample(filepath.Join(root, "large.bin"), func(w io.Writer) error {
		_, err := io.CopyN(w, rand.NewChaCha8([32]byte{}), demoLargeSize)
		return err
	})
}

func writeSample(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func logbook() string {
	var b strings.Builder
	day := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	weather := []string{"calm", "fog", "rain", "clear, wind from the west", "storm"}
	for i := range 60 {
		fmt.Fprintf(&b, "%s  %s\n", day.AddDate(0, 0, i).Format(time.DateOnly), weather[i*i%len(weather)])
	}
	b.WriteString("The keeper has left the lighthouse.\n")
	return b.String()
}

// sunset draws a sun going down over the sea.
func sunset(width, height int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	horizon := height * 2 / 3
	for y := range height {
		for x := range width {
			t := float64(y) / float64(horizon)
			c := color.RGBA{uint8(60 + 190*math.Min(t, 1)), uint8(40 + 110*math.Min(t, 1)*t), uint8(110 - 60*math.Min(t, 1)), 255}
			if dx, dy := x-width/2, y-horizon; y < horizon && dx*dx+dy*dy < height*height/25 {
				c = color.RGBA{255, 220, 120, 255}
			}
			if y >= horizon {
				ripple := uint8(20 * (1 + math.Sin(float64(y*y)/40+float64(x)/15)))
				c = color.RGBA{40 + ripple, 40 + ripple/2, 90, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}
