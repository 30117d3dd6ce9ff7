"""The scorers that come with attention-core, registered the way everybody's are."""
