"""What a sceptical reader would ask of data before believing a figure that was found on them.

finding.py      what a check says
examined.py     what a check is told of the images
features.py     what is measured of each image while it is packed
"""
