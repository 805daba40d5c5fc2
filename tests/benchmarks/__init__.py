"""What hefjoin costs, measured: `make bench` prints one table and writes nothing into the tree.

The rules:

1. A bar is on a ratio of one run, its sides interleaved (A B A B …); seconds stand beside it as illustration. Only
   the flow's own cost, and the two start-ups, have bars in seconds.
2. A ratio is one of medians; the extremes stand beside it.
3. CPU time and peak memory are those of one fresh child process, from `wait4`.
4. Nothing heavy is imported here in the parent: Linux counts the pages that a parent had at `exec` into its
   child's peak.
"""
