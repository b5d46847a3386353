/* SPDX-License-Identifier: MIT */

#include "bench/counting.h"
#include "bench/writing.h"

#include <sqlite3.h>
#include <stdio.h>
#include <sys/resource.h>

#define MILLION UINT64_C(1000000)

double cpu_usec(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) < 0)
		return 0;
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void report(const char *name, double value)
{
	printf("%s %.6g\n", name, value);
	(void)fflush(stdout);
}

/* What it costs to make the claims, and to give them back. */
static int measure_generator(const struct writing *w, double *ret)
{
	_cleanup_(workload_free_p) struct workload *load =
		workload_new(w->times, MIN(w->claims, MILLION), w->span);
	struct claim claim;
	double begun = cpu_usec();
	uint64_t count = 0;

	if (!load)
		return -ENOMEM;
	for (; workload_next(load, &claim); count++)
		claim_done(&claim);
	*ret = count ? (cpu_usec() - begun) / (double)count : 0;
	return 0;
}

/* Bytes that this process caused to be written to storage, as the kernel counts them: whole pages of the page cache. */
static double disk_bytes(void)
{
	FILE *file = fopen("/proc/self/io", "re");
	char line[128];
	unsigned long long value = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "write_bytes: %llu", &value) == 1)
			break;
	if (file)
		(void)fclose(file);
	return (double)value;
}

int meter_begin(struct meter *m, const struct writing *w)
{
	int r;

	*m = (struct meter){0};
	r = measure_generator(w, &m->generator);
	if (r < 0)
		return r;
	report("generator_usec", m->generator);
	m->disk = disk_bytes();
	m->begun = m->last = cpu_usec();
	return 0;
}

void meter_tick(struct meter *m, uint64_t claims)
{
	double now;
	char name[32];

	if (claims / MILLION == m->last_claims / MILLION)
		return;
	now = cpu_usec();
	snprintf(name, sizeof(name), "cpu_usec_at_%llum", (unsigned long long)(claims / MILLION));
	report(name, (now - m->last) / (double)(claims - m->last_claims) - m->generator);
	m->last = now;
	m->last_claims = claims;
}

void meter_end(struct meter *m, uint64_t claims)
{
	double cpu = (cpu_usec() - m->begun) / (double)claims - m->generator;
	struct counted c = counting_now();

	report("claims", (double)claims);
	report("cpu_usec", cpu);
	report("claims_per_second", 1e6 / cpu);
	report("disk_bytes", (disk_bytes() - m->disk) / (double)claims);
	report("wal_bytes", (double)c.wal / (double)claims);
	report("checkpoint_bytes", (double)c.database / (double)claims);
	report("written_bytes", (double)(c.wal + c.database + c.other) / (double)claims);
}

int report_rows(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *row = NULL;
	int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_prepare_v2(db, sql, -1, &row, NULL);
	if (code == SQLITE_OK)
		while ((code = sqlite3_step(row)) == SQLITE_ROW)
			printf("%s %lld\n", (const char *)sqlite3_column_text(row, 0),
				(long long)sqlite3_column_int64(row, 1));
	sqlite3_finalize(row);
	sqlite3_close(db);
	return code == SQLITE_DONE ? 0 : -EIO;
}
