"""Starting runs: launch, table, resume, requeue."""
