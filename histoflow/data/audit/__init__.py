"""What a sceptical reader would ask of data before believing a figure that was found on them.

checks.py       asks everything, and leaves out what a policy drops
policy.py       refuses to train where a policy says so, when findings are read

finding.py      what a check says; answer.py adds which images would have to go
examined.py     what a check is told of the images
features.py     what is measured of each image while it is packed
closer.py       what is measured only where a probe looks; texture.py is its part for sharpness and texture
planes.py       the pieces of large images that are looked at

pictures.py     blank, black and constant images
groups.py       groups across splits
copies.py       exact copies; near.py, alike.py, turned.py and crowds.py near ones; crossing.py says where
                they stand; together.py holds sets of them
counts.py       classes that are missing or rare, and the shares of splits
metadata.py     files that tell the label
shortcuts.py    how far colour alone gets; classifiers.py is what tries
shift.py        how alike the splits look; separation.py tries, comparison.py and differences.py say it

statistics.py   figures with intervals, by group
sampling.py     which images a probe looks at
tables.py, quarantine.py    the same for the command line and the report
"""
