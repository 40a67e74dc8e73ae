"""Several processes that train one model together: what each holds, and how long their step takes."""
