"""What went into two runs, as the trainers had it: evidence, what each difference does, the layer's verdict."""
