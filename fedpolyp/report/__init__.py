"""Reports: the pages, charts, tables and pictures of runs, comparisons, audits and attacks."""
