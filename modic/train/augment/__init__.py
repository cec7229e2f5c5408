"""What training changes in an image: slices for the detector, regions for the classifier, painted lesions."""
