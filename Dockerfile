# docker build -t lottery-ticket-lab . && docker run --rm -p 8888:8888 lottery-ticket-lab
FROM python:3.12-slim
RUN useradd --create-home student
COPY . /lab
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c /lab/constraints.txt "/lab[lab]" && rm -r /lab
USER student
WORKDIR /home/student
EXPOSE 8888
CMD ["labkit", "lab", "lessons", "--ip=0.0.0.0", "--no-browser"]
