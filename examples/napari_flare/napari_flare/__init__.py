"""nnU-Net in napari, by libflare: napari.yaml tells what the plugin contributes."""
