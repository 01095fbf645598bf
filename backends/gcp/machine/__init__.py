"""What runs on the machine beside the worker: the watchdog that deletes it when nobody needs it any more."""
