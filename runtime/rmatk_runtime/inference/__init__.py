"""From pictures to predictions: the classifier, and the pipeline that runs it on a source."""
