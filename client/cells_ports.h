/* SPDX-License-Identifier: MIT */
#pragma once

/* Kinds of rows of the answers about ports and who uses them up. */

#include "client/cells.h"

extern const struct kind kind_listeners, kind_pressure, kind_apps;

/* Were the ports of this row of pressure all in use, or nearly all? */
bool pressure_near(const json_t *row);

/* "root, www-data, ...": the users of an App. "10", "44892 (3)": ports. Fresh text, not yet escaped; NULL: no memory. */
char *cell_app_users(const json_t *app, const struct view *v);
char *cell_app_units(const json_t *app, const struct view *v);
char *cell_app_preferred(const json_t *app, const struct view *v);
char *cell_app_serves(const json_t *app, const struct view *v);
char *cell_app_last(const json_t *app, const struct view *v);
