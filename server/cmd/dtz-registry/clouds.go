//go:build !noclouds

package main

// The object stores of Amazon, Google and Microsoft bring more code than all
// the rest. The tag noclouds leaves them out where a build has to be quick.
import (
	_ "github.com/distribution/distribution/v3/registry/storage/driver/azure"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/gcs"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
)
