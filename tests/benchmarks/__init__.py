"""What hefjoin costs, measured: `make bench` prints one table and writes nothing into the tree.

The rules:

1. A bar is on a ratio of one run, its sides interleaved (A B A B …); seconds stand beside it as illustration. Only
   the flow's own cost, and the two start-ups, have bars in seconds.
2. A ratio is one of medians. Where only wall time can say it (parallel parses, the flow) the fastest round of each
   side counts, as what else runs on the machine only adds to it; median and extremes stand beside it.
3. CPU time and peak memory are those of one fresh child process, from `wait4`.
4. Nothing heavy is imported here in the parent: Linux counts the pages that a parent had at `exec` into its
   child's peak.
"""
