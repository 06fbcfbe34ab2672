"""Read the tables beside a recording and apply them: channels, electrodes, events, dataset treatment."""
