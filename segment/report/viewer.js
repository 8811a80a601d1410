// The view of a report: unpacks niivue, image and organs from the page, and ties the
// controls to them. <html data-viewer> tells how it went: "opening", then "drawn" or "failed".
'use strict'
;(async () => {
	const page = document.documentElement
	const element = (id) => document.getElementById(id)

	// unpack gives what the script element id holds, and forgets it there.
	async function unpack(id, format) {
		const text = atob(element(id).textContent)
		element(id).remove()
		const bytes = new Uint8Array(text.length)
		for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i)
		const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format))
		return new Response(stream).arrayBuffer()
	}

	// nifti puts voxels on the report's grid into a NIfTI-1 file in memory.
	function nifti(voxels, datatype, slope, intercept) {
		const file = new ArrayBuffer(352 + voxels.byteLength)
		const h = new DataView(file)
		const { size, spacing, affine } = report
		h.setInt32(0, 348, true)
		;[3, ...size, 1, 1, 1, 1].forEach((n, i) => h.setInt16(40 + 2 * i, n, true))
		h.setInt16(70, datatype, true)
		h.setInt16(72, 8 * voxels.BYTES_PER_ELEMENT, true)
		;[1, ...spacing, 1, 1, 1, 1].forEach((n, i) => h.setFloat32(76 + 4 * i, n, true))
		h.setFloat32(108, 352, true)
		h.setFloat32(112, slope, true)
		h.setFloat32(116, intercept, true)
		h.setUint8(123, 2) // mm
		h.setInt16(254, 1, true)
		affine.flat().forEach((n, i) => h.setFloat32(280 + 4 * i, n, true))
		;[0x6e, 0x2b, 0x31].forEach((c, i) => h.setUint8(344 + i, c)) // n+1
		new Uint8Array(file, 352).set(new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength))
		return file
	}

	// image undoes the packing: differences along x of codes that stand for values.
	function image(steps) {
		const voxels = new Int16Array(steps.length)
		for (let row = 0; row < steps.length; row += report.size[0]) {
			let code = 0
			for (let i = row; i < row + report.size[0]; i++) {
				code = (code + steps[i]) & 255
				voxels[i] = report.ct ? report.values[code] : code
			}
		}
		const [lo, hi] = [report.values[0], report.values[255]]
		return report.ct ? nifti(voxels, 4, 1, 0) : nifti(voxels, 4, (hi - lo) / 255, lo)
	}

	// group makes buttons of which one is pressed.
	function group(id, choices, press) {
		const buttons = choices.map(([name, ...choice]) => {
			const button = element(id).appendChild(document.createElement('button'))
			button.textContent = name
			button.onclick = () => {
				for (const b of buttons) b.setAttribute('aria-pressed', b === button)
				press(...choice)
			}
			return button
		})
		buttons[0]?.setAttribute('aria-pressed', true)
	}

	try {
		const script = document.createElement('script')
		script.textContent = new TextDecoder().decode(await unpack('niivue', 'gzip'))
		document.head.append(script)
		const { Niivue, NVImage } = niivue
		page.dataset.viewer = 'opening' // shows the canvas, which has no size before
		const nv = new Niivue({
			backColor: [0, 0, 0, 1],
			crosshairColor: [0.35, 0.75, 1, 0.8],
			crosshairWidthUnit: 'mm',
			fontColor: [0.7, 0.75, 0.8, 1],
			isRadiologicalConvention: true,
			sagittalNoseLeft: true,
			show3Dcrosshair: false,
			dragAndDropEnabled: false,
			loadingText: '',
			logLevel: 'error',
		})
		await nv.attachToCanvas(element('canvas'))
		const thin = report.size.indexOf(1) // of a 2-D image: the axis across it
		const across = report.affine.map((row) => Math.abs(row[thin]))
		const flat = thin >= 0
		const planes = flat
			? [nv.sliceTypeSagittal, nv.sliceTypeCoronal, nv.sliceTypeAxial][across.indexOf(Math.max(...across))]
			: nv.sliceTypeMultiplanar
		nv.setSliceType(planes)

		const ct = await NVImage.loadFromUrl({
			url: 'image.nii', name: 'image.nii', colormap: 'gray', cal_min: report.window[0], cal_max: report.window[1],
			buffer: image(new Uint8Array(await unpack('image', 'deflate-raw'))),
		})
		nv.addVolume(ct)
		const packed = await unpack('labels', 'deflate-raw')
		const organs = report.wide ? new Uint16Array(packed) : new Uint8Array(packed)
		const labels = await NVImage.loadFromUrl({
			url: 'labels.nii', name: 'labels.nii', opacity: 0.5, buffer: nifti(organs, report.wide ? 512 : 2, 1, 0),
		})
		const shown = report.organs.map(() => true)
		const colour = () =>
			labels.setColormapLabel({
				R: [0, ...report.organs.map((o) => o.colour[0])],
				G: [0, ...report.organs.map((o) => o.colour[1])],
				B: [0, ...report.organs.map((o) => o.colour[2])],
				A: [0, ...shown.map((is) => (is ? 255 : 0))],
				I: [0, ...report.organs.map((_, i) => i + 1)],
				labels: ['', ...report.organs.map((o) => o.name)],
			})
		colour()
		nv.addVolume(labels)

		group('windows', report.ct
			? [['soft tissue', -160, 240], ['lung', -1350, 150], ['bone', -450, 1050]]
			: [['auto', ...report.window], ['full range', report.values[0], report.values[255]]],
		(lo, hi) => {
			ct.cal_min = lo
			ct.cal_max = hi
			nv.updateGLVolume()
		})
		group('layouts', flat ? [] : [['planes', planes], ['3-D', nv.sliceTypeRender]], (type) => {
			nv.setSliceType(type)
			nv.setOpacity(0, type === planes ? 1 : 0) // organs alone
			nv.setOpacity(1, type === planes ? Number(element('opacity').value) : 1)
		})
		element('opacity').oninput = (e) => nv.setOpacity(1, Number(e.target.value))

		nv.onLocationChange = (at) => {
			const [value, organ] = at.values.map((v) => v.value)
			const mm = Array.from(at.mm).slice(0, 3).map((v) => v.toFixed(0)).join(', ')
			const name = report.organs[Math.round(organ) - 1]?.name
			const number = report.ct ? `${Math.round(value)} HU` : Number(value).toPrecision(4)
			element('place').textContent = `${name ? name + ' · ' : ''}≈ ${number} · ${mm} mm (RAS)`
		}
		const jump = (mm) => {
			nv.scene.crosshairPos = nv.mm2frac(mm)
			nv.drawScene()
			nv.createOnLocationChange()
		}
		for (const button of document.querySelectorAll('.jump'))
			button.onclick = () => {
				const centre = report.organs[button.dataset.organ - 1].centre
				if (centre) jump(centre)
			}
		const boxes = [...document.querySelectorAll('.show')]
		const show = () => {
			for (const box of boxes) shown[box.dataset.organ - 1] = box.checked
			element('all').checked = boxes.every((box) => box.checked || box.disabled)
			colour()
			nv.updateGLVolume()
		}
		for (const box of boxes) box.onchange = show
		element('all').onchange = (e) => {
			for (const box of boxes) box.checked = e.target.checked || box.disabled
			show()
		}
		jump(report.focus)
		page.dataset.viewer = 'drawn'
	} catch (error) {
		page.dataset.viewer = 'failed'
		element('failed').textContent = `The view needs a newer browser, or WebGL 2: ${error.message}`
		console.warn(error)
	}
})()
