/* SVG by hand: rectangles and texts need no plotting program, and the same answers give the same bytes. */
#include "runtime/eval/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 20, BANDS = 10 };
enum { LEFT = 90, TOP = 40, CELL_WIDTH = 84, CELL_HEIGHT = 26, GAP = 50, LEGEND = 30 }; /* pixels */

/* One task's answers. */
typedef struct {
    const lucid_eval_records *records;
    int64_t first, end;
    double depths[MAX_ROWS]; /* ascending; none where there are bands */
    int n_rows, n_columns;
    bool banded;
} panel;

/* --- rows and columns --- */

/* Whether there was room. */
static bool add_depth(panel *p, double depth) {
    int at = 0;
    while (at < p->n_rows && p->depths[at] < depth) at++;
    if (at < p->n_rows && p->depths[at] == depth) return true;
    if (p->n_rows == MAX_ROWS) return false;
    memmove(p->depths + at + 1, p->depths + at, (size_t)(p->n_rows - at) * sizeof *p->depths);
    p->depths[at] = depth;
    p->n_rows++;
    return true;
}

static panel panel_at(const lucid_eval_records *records, int64_t first) {
    const lucid_eval_record *r = records->items;
    panel p = {.records = records, .first = first, .end = first};
    while (p.end < records->n && !strcmp(r[p.end].task, r[first].task)) {
        p.end += lucid_eval_cell_at(records, p.end).n;
        p.n_columns++;
    }
    for (int64_t i = first; i < p.end && !p.banded; i++) p.banded = !add_depth(&p, r[i].depth);
    if (p.banded) p.n_rows = BANDS;
    return p;
}

static int row_of(const panel *p, double depth) {
    int row = 0;
    if (p->banded) return depth < 100 ? (int)(depth * BANDS / 100) : BANDS - 1;
    while (p->depths[row] != depth) row++;
    return row;
}

/* --- drawing --- */

/* From dark blue over teal to yellow, so that it reads without colours too. */
static void put_colour(FILE *stream, double share) {
    static const double stops[][3] = {{68, 1, 84}, {33, 145, 140}, {253, 231, 37}};
    const int i = share < 0.5 ? 0 : 1;
    const double t = 2 * share - i;
    int rgb[3];
    for (int c = 0; c < 3; c++) rgb[c] = (int)lround(stops[i][c] + t * (stops[i + 1][c] - stops[i][c]));
    fprintf(stream, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

static void put_text(FILE *stream, int x, int y, const char *anchor, const char *text) {
    fprintf(stream, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">", x, y, anchor);
    for (; *text; text++) {
        const char *escaped = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : NULL;
        if (escaped)
            fputs(escaped, stream);
        else
            fputc(*text, stream);
    }
    fputs("</text>\n", stream);
}

static void put_cell(FILE *stream, int x, int y, double sum, int64_t n) {
    if (n == 0) return;
    const double share = sum / (double)n;
    fprintf(stream, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"", x, y, CELL_WIDTH - 1,
            CELL_HEIGHT - 1);
    put_colour(stream, share);
    fprintf(stream,
            "\"><title>%.4g of %" PRId64 "</title></rect>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" "
            "fill=\"%s\">%.0f</text>\n",
            sum, n, x + CELL_WIDTH / 2, y + CELL_HEIGHT / 2 + 4, share < 0.5 ? "white" : "black", 100 * share);
}

static const char *length_text(char *text, size_t n, int64_t length) {
    if (length % 1024)
        snprintf(text, n, "%" PRId64, length);
    else
        snprintf(text, n, "%" PRId64 "K", length / 1024);
    return text;
}

static void put_column(FILE *stream, const panel *p, const lucid_eval_cell *cell, int x, int y) {
    double sums[MAX_ROWS] = {0};
    int64_t counts[MAX_ROWS] = {0};
    char text[24];
    for (int64_t i = 0; i < cell->n; i++) {
        const int row = row_of(p, cell->records[i].depth);
        sums[row] += cell->records[i].score;
        counts[row]++;
    }
    for (int row = 0; row < p->n_rows; row++) put_cell(stream, x, y + row * CELL_HEIGHT, sums[row], counts[row]);
    put_text(stream, x + CELL_WIDTH / 2, y + p->n_rows * CELL_HEIGHT + 14, "middle",
             length_text(text, sizeof text, cell->records->max_length));
}

static void put_rows(FILE *stream, const panel *p, int y) {
    for (int row = 0; row < p->n_rows; row++) {
        char text[32];
        if (p->banded)
            snprintf(text, sizeof text, "%d-%d %%", row * 100 / BANDS, (row + 1) * 100 / BANDS);
        else
            snprintf(text, sizeof text, "%.3g %%", p->depths[row]);
        put_text(stream, LEFT - 6, y + row * CELL_HEIGHT + CELL_HEIGHT / 2 + 4, "end", text);
    }
}

static int panel_height(const panel *p) {
    return p->n_rows * CELL_HEIGHT + GAP + LEGEND;
}

static void put_panel(FILE *stream, const panel *p, int y) {
    put_text(stream, LEFT, y - 8, "start", p->records->items[p->first].task);
    put_rows(stream, p, y);
    int x = LEFT;
    for (int64_t i = p->first; i < p->end; x += CELL_WIDTH) {
        const lucid_eval_cell cell = lucid_eval_cell_at(p->records, i);
        put_column(stream, p, &cell, x, y);
        i += cell.n;
    }
    put_text(stream, LEFT, y + p->n_rows * CELL_HEIGHT + LEGEND, "start",
             "percent found; right: length in tokens, down: depth of the needle");
}

void lucid_eval_heatmap(FILE *stream, const lucid_eval_records *records) {
    int height = TOP, width = 6;
    for (int64_t i = 0; i < records->n;) {
        const panel p = panel_at(records, i);
        height += panel_height(&p);
        if (p.n_columns > width) width = p.n_columns;
        i = p.end;
    }
    fprintf(stream,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            LEFT + width * CELL_WIDTH + 20, height);
    int y = TOP;
    for (int64_t i = 0; i < records->n;) {
        const panel p = panel_at(records, i);
        put_panel(stream, &p, y);
        y += panel_height(&p);
        i = p.end;
    }
    fputs("</svg>\n", stream);
}
