"""Print how many cases of an index are in each split, as a table."""

import sys
from collections import Counter

from softlabels.cohort.index import Index

splits = Counter(case.split or "none" for case in Index.read(sys.argv[1]).cases)
print("split\tcases")
for split, number in sorted(splits.items()):
    print(f"{split}\t{number}")
