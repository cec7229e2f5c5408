"""Series to voxels with geometry, registration, and the regions that are cut from them."""
