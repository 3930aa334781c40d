-- What was written since some time is found without reading every pane.
CREATE INDEX panes_by_version_time ON panes (version_time, id);
