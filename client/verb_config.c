/* SPDX-License-Identifier: MIT */

/* The settings as the daemon would read them: from the files, not from the daemon, which may run with older ones. */

#include "client/ask.h"
#include "client/shape.h"
#include "config/config.h"
#include "config/settings.h"

#define CONFIG_DEFAULT "/etc/portledger/portledger.conf"

static enum status write_setting(struct writer *w, const struct config *c, enum setting_id id)
{
	_cleanup_(free_p) char *value = setting_format(c, id), *from = config_origin_format(c, id);
	_cleanup_(json_decrefp) json_t *row = NULL;

	if (!value || !from)
		return complain_memory();
	row = json_pack("{s:s,s:s,s:s,s:s}", "section", settings_table[id].section, "key",
		settings_table[id].key, "value", value, "from", from);
	return !row || writer_row(w, row) < 0 ? complain_memory() : STATUS_FOUND;
}

enum status verb_config(const struct options *o, struct view *v)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	_cleanup_(config_done) struct config c = {0};
	_cleanup_(free_p) char *error = NULL;
	enum status status;
	int r;

	r = config_load(o->config_path ? o->config_path : CONFIG_DEFAULT, o->config_path != NULL,
		&c, &error);
	if (r < 0) {
		complain("%s", error ? error : "out of memory");
		return STATUS_ERROR;
	}
	status = ask_writer(v, &kind_settings, false, &w);
	for (int i = 0; i < SETTING_COUNT && status == STATUS_FOUND; i++)
		status = write_setting(w, &c, (enum setting_id)i);
	if (status == STATUS_FOUND && writer_finish(w, NULL, NULL) < 0)
		return complain_memory();
	return status;
}
