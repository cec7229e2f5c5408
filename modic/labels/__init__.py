"""Labels that readers gave: tables of grades and boxes, and the names of levels in them."""
