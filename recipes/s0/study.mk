# AG News as its authors packed it: DATA/ag_news_csv/{train,test}.csv.
TASKS := ag_news_csv
ARMS  := base/head dapt/head tapt/head dapt+tapt/head
