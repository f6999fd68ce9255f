TASKS := ag_news
ARMS  := $(addprefix base/,A B-v1 B-v2 C-v1 C-v2 D-v1 D-v2 E-v1 E-v2 F-v1 F-v2)
