"""What every host must keep of the port's promises: one suite, run on the fake and on real ones."""
