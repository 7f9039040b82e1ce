analyze run
