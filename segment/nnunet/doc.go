// Package nnunet reads what nnU-Net v2 writes: plans.json, dataset.json,
// dataset_fingerprint.json and PyTorch checkpoints in a results folder, and
// other pickles; it finds the files of a raw dataset, and plans experiments as
// nnU-Net's planners do. It gives plain data and executes nothing that it
// reads; every value is checked, so that what it returns can be used without
// further checks and no file can cause a panic or a large allocation. Facts
// cited in comments are those of nnU-Net 2.8.1 (paths below nnunetv2/) and
// dynamic-network-architectures (paths below dynamic_network_architectures/).
//
// Errors have a kind (package fault) and name the file, the key, the value
// found and what was expected.
package nnunet
