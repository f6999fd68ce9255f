# Two lengths: static and dynamic padding differ in nothing else where no padding is computed.
TASKS := imdb@256 imdb@512
ARMS  := base/full
