"""Kaggle's service in words of ours; nothing here knows what an attempt is.

wire         calls through Kaggle's SDK: time limits, retries, and the one place that knows its private parts
http         sessions with time limits, for calls, uploads and downloads
credentials  which ones Kaggle's own client would use, and what is wrong with them
service      typed calls          answers  what they return        refusals  what Kaggle says no with
blobs        resumable uploads    download signed output files     logs, records  a kernel's log as lines
"""
