module culvert

go 1.26.0
